"""``gfocal serve``: a detector behind an HTTP address.

In the order in which a request passes:

    bounds.py       how much a service takes: bytes, images, seconds
    connections.py  of a client that sends its request too slowly, or not at all
    form.py         the files of a multipart form, in memory
    upload.py       the images of a request: multipart or json, within bounds
    batcher.py      images that wait, are read by threads, and go through the network in batches
    answer.py       what the service answers, as types that OpenAPI describes
    meters.py       what Prometheus reads
    service.py      a model with its batcher, and what is said of it
    page.py         the page at /, one file of HTML
    app.py          the addresses of the service
    server.py       a socket, signals, and the end
"""
