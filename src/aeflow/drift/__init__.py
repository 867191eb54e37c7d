"""Tables of scores against the normals of a calibration: charts, statistics, a page; only api and cli may import it."""
