"""Detectors: networks as presets, their files, and inference with them.

In reading order:

    detector.py                  backbone, neck and head, with what is needed to use them
    heads.py                     the GFL head, and the parts that heads share
    edge_quality.py              quality of a box from its edge distributions, as in GFLv2
    dense_head.py                the head of RetinaNet, FCOS, FoveaBox and ATSS
    winograd_training.py         3x3 convolutions with fewer multiplications, and their gradients
    necks.py                     FPN with P6 and P7
    backbone.py                  what a backbone offers; any timm network with strides 8, 16 and 32
    freezing.py                  what of a backbone is excluded from training
    convolutions.py              deformable convolutions, and depthwise ones in float32
    caffe.py                     ResNets of the Caffe kind
    activation_checkpointing.py  less memory in training, more time
    options.py                   options of presets: types and bounds
    published_settings.py        how a preset was trained and decoded in its paper, as data
    gfl.py                       presets of GFL
    baselines.py                 presets of RetinaNet, FCOS, FoveaBox and ATSS
    ssd.py                       SSD512: network, default boxes, preset
    sapd.py                      SAPD: head, level selector, preset
    shufflenet.py                ShuffleNetV2 as a backbone
    ghost_pan.py                 the neck of NanoDet-Plus
    nanodet.py                   NanoDet-Plus: heads, auxiliary part, presets
    initial_edges.py             where a new head predicts edges before it has learned anything
    zoo.py                       the table of all presets
    names.py                     what may be named as a model: files, runs, published weights, the hub
    reachable.py                 whether ImageNet weights can be fetched, found out in seconds
    published.py                 the table of published weights: names, addresses, hashes, AP
    description.py               the json object that a network is built from
    stored_calibration.py        a calibration as json in a description, every number checked
    model_file.py                gfocal's model file: write, read, find, download
    finetuning.py                other classes, frozen parts
    streams.py                   several passes through a small network at once
    exported.py                  files of gfocal export as detectors again
    precision.py                 float32 or bf16: what is asked for, what is native, what was found to cost nothing
    winograd.py                  3x3 convolutions with fewer multiplications
    fused_layers.py              a convolution with all that follows it
    fusing.py                    a part of a network rewritten for inference
    inference_copy.py            the copy of a detector that detects, kept while its weights last
    predict.py                   inference: batches, and images of any kind
    tiled.py                     inference in large images, tile by tile
    image_features.py            what an image looks like to a detector, from the pass that detects
"""
