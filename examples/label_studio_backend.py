"""Label Studio asks a gfocal model for predictions: an ML backend.

    pip install gfocal label-studio-ml rq redis
    export LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=...   # to read images that people uploaded
    python label_studio_backend.py runs/mine --port 9090

Then, in the project's settings: Model, Connect Model, http://localhost:9090. The project's labeling interface has an
``<Image>`` and ``<RectangleLabels>`` with the names of the model's classes; others are left out. Runs with
label-studio-ml 1.0.9, which is the package index's, and 2.0 from its repository.
"""

from __future__ import annotations

import argparse
from statistics import fmean
from typing import Any

from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase

import gfocal

DETECTOR: Any = None  # loaded once; Label Studio's server makes an object of Backend as often as it likes


class Backend(LabelStudioMLBase):
    """Predictions of ``DETECTOR``."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """A prediction for each task, with the score of each region and the spread of its edges."""
        from_name, control = next(
            (name, one) for name, one in self.parsed_label_config.items() if one["type"] == "RectangleLabels"
        )
        predictions = []
        for task in tasks:
            found = DETECTOR.detect(self.get_local_path(task["data"][control["inputs"][0]["value"]]))
            height, width = found.size
            regions = []
            for one in found:
                if one.name not in control["labels"]:
                    continue
                x1, y1, x2, y2 = one.box
                value = {"x": 100 * x1 / width, "y": 100 * y1 / height, "rotation": 0}
                value |= {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
                region = {"type": "rectanglelabels", "from_name": from_name, "to_name": control["to_name"][0]}
                region |= {"original_width": width, "original_height": height, "image_rotation": 0}
                region |= {"value": value | {"rectanglelabels": [one.name]}, "score": one.score}
                if one.edge_std is not None:  # not every detector predicts it
                    text = ", ".join(f"{std:.1f}" for std in one.edge_std)
                    region["meta"] = {"text": [f"edges left, top, right, bottom: ± {text} px"]}
                regions.append(region)
            score = fmean(region["score"] for region in regions) if regions else 0.0
            predictions.append({"model_version": f"gfocal {gfocal.__version__}", "score": score, "result": regions})
        return predictions


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what gfocal.load takes")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    DETECTOR = gfocal.load(arguments.model)
    init_app(model_class=Backend).run(host=arguments.host, port=arguments.port)
