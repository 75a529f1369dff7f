"""Detections in FiftyOne's app, the most uncertain images first.

pip install fiftyone
gfocal detect runs/mine new/ --out found --format fiftyone --no-images
python fiftyone_app.py found/fiftyone
"""

from __future__ import annotations

import sys

import fiftyone as fo
from fiftyone import ViewField

if __name__ == "__main__":
    dataset = fo.Dataset.from_dir(
        sys.argv[1], dataset_type=fo.types.FiftyOneImageDetectionDataset, label_field="predictions"
    )
    dataset.add_dynamic_sample_fields()  # edge_std and the others get into the app's filters
    uncertainty = ViewField("predictions.detections.image_uncertainty").max()
    # dataset.filter_labels("predictions", ViewField("largest_std") > 8) is a view of boxes with a doubtful edge
    fo.launch_app(view=dataset.sort_by(uncertainty, reverse=True)).wait()
