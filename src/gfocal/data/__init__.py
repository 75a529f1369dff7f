"""Annotated images: reading, validation, augmentation and batches; no module here knows a model.

stated.py         objects exactly as annotation files state them, for evaluation
dataset.py        the dataset interface: samples, problems, ImageData, FileData
discovery.py      the entry point: read_data detects the format from the path
readers/          COCO, VOC, YOLO and CSV into a FileData
annotated.py      from what a labeling tool wrote to a dataset: images located, classes ordered
locate.py         image names of another machine, found below the folder of the dataset
image_record.py   one image as the annotations describe it, before validation
outlines.py       upright boxes around polygons, ellipses and rotated boxes
masks.py          upright boxes around COCO's polygons and masks
box_layouts.py    what the numbers of boxes seem to be: corners, centers, sides, of larger images
class_ids.py      ids of classes that are all one too high or too low
unread.py         files of other tools that are not read, and how they can be
conventions.py    what concerns a whole dataset: other conventions, resized images, flags on most objects
validation.py     what can be wrong with images and boxes, and what is done about it
paths.py          names of splits, lists of images, paths that stay inside their folder, the order of classes
sidecar.py        gfocal.json: information that the files of a format cannot store
assigned.py       splits that gfocal.json assigns, whatever the format
coco_names.py     the 80 classes of COCO
images.py         image files into upright 8-bit RGB
tiff_segments.py  TIFF files by their strips and tiles
sequential.py     large JPEG and PNG files from the top, by libvips
image_rows.py     large images by rows, of these or in memory
tile_pixels.py    the pixels of the tiles of an image
value_range.py    the values of images of more than 8 bits that become 0 and 255
identity.py       a digest of each image file, by which it is known again
fingerprints.py   a small summary of the pixels of each image, and near-duplicates by it
grouping.py       which images stay together: near-duplicates, frames of one sequence
splitting.py      train, val and test in proportion, groups whole
split_files.py    splits into the files of a dataset
survey.py         the headers of all images: which have more than 8 bits, which have several pages
classes.py        which classes are used, and under which names: --classes and --rename
views.py          concatenated datasets, some or one of their classes, only the images with objects
augmentation/     random changes of training images and their boxes
preprocess.py     resize, normalize, pad
threads.py        work done by threads ahead of where its results are needed
warp.py           the stretch to a fixed size, as OpenCV's warpPerspective
samplers.py       the images of an epoch: their order, batches and processes
loading.py        samples into batches, the same ones after a resume
convert.py        gfocal convert: from one format to another, verified by reading the result
writers/          a dataset or detections into files of a format
synthetic/        images without files, with known distributions of ambiguous edges
"""
