"""Scoring of archives in parts, on processes or Ray, that goes on after any kill; only cli may import it.

`score_archive` is the way through: `sources/` lists files into the `plan`, `engines/` run `part_scorer` on each part of
it, `folder` keeps what comes back, `finish` makes the summary and the studies, `former` knows what was scored before.
`one_table` makes a table of it where sources are URLs.
"""
