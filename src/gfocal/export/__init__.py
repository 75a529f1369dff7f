"""Models as files for other engines, verified against the model; ``models/exported.py`` reads them back.

export.py         the whole: convert, compare, keep or refuse
network.py        a detector as one function of tensors
onnx_file.py      the onnx graph
openvino_file.py  OpenVINO's .xml and .bin
torch_file.py     the .pt2 of torch.export
int8.py           static quantization by onnxruntime and NNCF
nms_graph.py      non-maximum suppression inside the graph
verify.py         differences between file and model, and their bounds
file_metadata.py  what a file says about itself
recalibrate.py    another calibration in a file
"""
