#!/usr/bin/env bash
# Guess: a nullable text field of what a function of pyspark's predict_batch_udf returns, such as the reason why an
#   image could not be read, may be None in any row of a batch, or in none.
# Behaviour: where the function returns a list of dicts, only the first of a batch is checked. None there raises
#   "Invalid scalar prediction result."; None in any other row becomes null. Whether a job fails depends on the order
#   of its rows. An empty text in place of None works in every row.
# Versions: pyspark 4.3.0 with pandas 2.3.3, pyarrow 22.0.0, numpy 2.3.5; needs Java 17. Source: the results below
#   (pyspark/ml/functions.py). Date: 2026-11-30.
set -euo pipefail
command -v java >/dev/null || { echo "needs Java 17 or later"; exit 1; }
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pyspark==4.3.0 pandas==2.3.3 pyarrow==22.0.0 numpy==2.3.5
cd "$place"
export PYSPARK_PYTHON="$place/venv/bin/python"
"$place/venv/bin/python" - 2>"$place/log" <<'PY' || { tail -20 "$place/log"; exit 1; }
import pyspark
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import StringType, StructField, StructType

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
kind = StructType([StructField("error", StringType(), True)])

def make(nothing):
    def make_predict():
        def predict(numbers):
            return [{"error": "odd" if number % 2 else nothing} for number in numbers]

        return predict

    return make_predict

def run(numbers, nothing):
    function = predict_batch_udf(make(nothing), return_type=kind, batch_size=10)
    table = spark.createDataFrame([(number,) for number in numbers], ["x"]).coalesce(1)
    try:
        return [row.r.error for row in table.select(function("x").alias("r")).collect()]
    except Exception as error:
        return next(line.strip() for line in str(error).splitlines() if line.strip().startswith("ValueError"))

print("pyspark", pyspark.__version__)
results = {(order, nothing): run(order, nothing) for nothing in (None, "") for order in ((1, 2), (2, 1))}
for (order, nothing), result in results.items():
    print("rows", order, "without an error", repr(nothing), "->", result)
assert results[(1, 2), None] == ["odd", None]
assert results[(2, 1), None] == "ValueError: Invalid scalar prediction result."
assert results[(1, 2), ""] == ["odd", ""] and results[(2, 1), ""] == ["", "odd"]
PY
