"""Detection in many image files, and in videos.

files.py            entry point: detect in files, write results and drawn images
sources.py          the images that a command line names: files, folders, patterns, lists
windows.py          files to batches: read, resized, normalized, stacked by size
stages.py           read ahead, detect in batches, draw, record
journal.py          a line for each finished image, so that a killed run can be resumed
intervals.py        which intervals of edges are written: of a calibrated model, at a coverage it can promise
resume.py           what identifies a run, and which of its images are done
uncertainty.py      how much there is to learn from the objects in an image, by their scores and edges
labeling.py         detections for CVAT, Label Studio and FiftyOne, what needs a look first
results.py          score threshold, records, files as COCO, YOLO, VOC and CSV
video.py            entry point: detect in videos; json lines, annotated video
frames.py           frames of files, streams and cameras, upright, with exact times
video_lines.py      the json line of a frame, and the journal that the lines are
video_writer.py     annotated frames to MP4
tracking.py         which boxes of successive frames are one object
track_counts.py     how many objects were tracked, by class
batches.py          batches of a table, for engines that map a function over them
parts.py            parts of a large job, and the parquet file of each
ray_engine.py       entry point: detect on a Ray cluster; its results in other formats
benchmark.py        how fast a detector is, stage by stage, in processes of their own
coco_submission.py  json and zip for COCO's test-dev server
"""
