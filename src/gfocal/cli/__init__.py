"""The command line, one file per command: ``add`` declares its options, ``run`` executes it.

main.py               entry point: all commands, errors of the user in one line
parser.py             argparse with suggestions for typos
early.py              what is answered before torch is imported
options.py            types of options, and options that several commands share
inputs.py             from arguments to datasets, devices and the standard output
check.py              gfocal check
label_review.py       the review of annotations of gfocal check
split.py              gfocal split
train.py              gfocal train
training_config.py    from the options of gfocal train and check to a config
held_out.py           which images gfocal train validates on
evaluate.py           gfocal eval
seen_images.py        which images of a command the model was trained on
evaluation_page.py    the page of gfocal eval, and what it says of the model's run
trust.py              what gfocal eval says of how far edges and scores can be trusted
storing.py            what gfocal eval writes into a model file
bf16_check.py         the check of bf16 at the end of gfocal train
counting.py           what gfocal eval counts: detections of a file, chosen classes, the limit of detections
calibrate.py          gfocal calibrate
detect.py             gfocal detect
video.py              gfocal detect, of videos
cluster.py            gfocal detect --engine ray
select.py             gfocal select
serve.py              gfocal serve
benchmark.py          gfocal benchmark
convert.py            gfocal convert
compare.py            gfocal compare
demo.py               gfocal demo
models.py             gfocal models
export.py             gfocal export
import_checkpoint.py  gfocal import
lab.py                gfocal lab
doctor.py             gfocal doctor
"""

DONE, SOME_FAILED, USER_ERROR = 0, 1, 2  # exit codes
