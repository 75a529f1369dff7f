"""A page on which detections can be looked through in a browser: one file, with a script, that loads nothing.

What runs in the browser are ``boxes.js`` (numbers: intervals, filters), ``labels.js`` (places of labels),
``stage.js`` (drawing), ``show.js`` (lists and numbers) and ``controls.js`` (what is chosen, keys), in the markup of
``viewer.html`` with the style of ``viewer.css``. They are in the page as they are here.

    pack.py         an image, its detections and ground truth as json and base64
    viewer_page.py  the page
"""
