"""The review service: a page where readers meet the detector, and the interface for programs beside it.

``app`` puts all together and ``server`` runs it; ``scoring_queue`` and ``intake`` take an upload to its scores,
``worklist``, ``labels`` and ``audit`` keep them (``database``, ``tables``, ``migrations/``), ``accounts`` and ``guard``
say who may, ``api`` and ``pages`` answer. Only ``cli`` may import it; its packages come with the extra ``serve``.
"""
