"""Node in a hospital's network: images come in over DICOM, results go back, and nothing is lost between.

::

    settings   what a node is told: peers, rules, destinations, limits, TLS
    queue      studies, objects, results and deliveries in SQLite, and what one may ask of them
    tables     its tables and rows
    store      files of objects and results, named by their content
    header     the few facts of a data set by which it is filed and routed
    server     pynetdicom's server with limits: PDUs, objects, connections, TLS
    intake     an object into store and queue, whichever way it came: on the disk first, then acknowledged
    receiver   associations and C-STORE
    orthanc    change feed of an Orthanc, whose stable studies are fetched
    feed_place the place in that feed, which outlives a kill
    rules      what is scored, with which run, and where results go
    score      a quiet study to results in the queue
    send       deliveries to a PACS, by C-STORE or STOW-RS
    service    all of it together, as threads of one process
    admin      status, retry and drop, from any process

Only ``cli`` imports it. It needs the extra ``node``.
"""
