"""Files, devices, machine and progress bars of a process; every wing may import them."""
