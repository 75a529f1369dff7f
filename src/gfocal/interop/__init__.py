"""Other tools: their checkpoints and result files in, detections and models out.

In reading order:

    mmdet.py               checkpoints of MMDetection and GFocal as detectors
    mmdet_checkpoint.py    their tensors by plain names, and their metadata
    mmdet_names.py         the preset that a checkpoint fits, and the name of each tensor in it
    nanodet_checkpoint.py  weights of NanoDet-Plus in their layouts as detectors
    any_checkpoint.py      which of them a file is
    download.py            one file: resumed, checked, in place only when it is complete
    weights_cache.py       the folder of published weights, and its lock
    published_weights.py   published weights by name: downloaded once, converted, loaded
    any_model.py           any file that gfocal writes as a detector: gfocal.load
    coco_results.py        COCO results in json, written and read
    own_results.py         what gfocal detect wrote, read for an evaluation
    conversions.py         detections as objects of supervision and of torchvision
    hub.py                 publishing on the Hugging Face hub
"""
