// What is known of the boxes, and what follows from it: intervals of edges, and which boxes are shown.
// Sides are numbered left, top, right, bottom: 0, 1, 2, 3. All lengths are pixels of the original image.

const SIDES = ["left", "top", "right", "bottom"];
const RIGHT = 0, IGNORED = 1; // kinds of a detection; larger ones are errors
const KINDS = [
  "true positive", "on a crowd region, ignored", "wrong class", "badly localized", "wrong class, badly localized",
  "second detection of an object", "on background",
];

function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// An image of the page: its arrays have a row for each detection, or for each ground-truth box.
function readImage(text) {
  const image = JSON.parse(text);
  const kinds = {
    boxes: Float32Array, scores: Float32Array, labels: Uint16Array, edges: Uint8Array, points: Float32Array,
    bin_sizes: Float32Array, edge_std: Float32Array, calibrated_scores: Float32Array, kinds: Uint8Array,
    gt_boxes: Float32Array, gt_labels: Uint16Array, gt_crowd: Uint8Array, gt_detection: Int32Array,
  };
  for (const [key, Kind] of Object.entries(kinds)) image[key] = key in image ? decode(image[key], Kind) : null;
  image.count = image.scores.length;
  image.gtCount = image.gt_labels ? image.gt_labels.length : 0;
  image.widest = null; // widest interval of each detection, at the present coverage
  return image;
}

function boxOf(boxes, i) {
  return boxes.subarray(4 * i, 4 * i + 4);
}

// The distribution of an edge: where its bins lie, how far apart, and their probabilities. They are stored as roots.
function distributionOf(image, i, side) {
  if (!image.edges) return null;
  const bins = image.bins, row = (4 * i + side) * bins, size = image.bin_sizes[4 * i + side];
  const start = image.points[2 * i + side % 2], direction = side < 2 ? -1 : 1; // x of left, right; y of top, bottom
  const positions = [], probabilities = [];
  let sum = 0;
  for (let k = 0; k < bins; k++) {
    positions.push(start + direction * k * size);
    probabilities.push((image.edges[row + k] / 255) ** 2);
    sum += probabilities[k];
  }
  return { positions, probabilities: probabilities.map((p) => p / (sum || 1)), size, direction };
}

// Lowest and highest x or y of an edge: of a calibrated model as Detections.edge_interval, else quantiles of the
// distribution, of which each bin is spread evenly over its width. null: no distribution, or too few boxes.
function intervalOf(image, i, side, settings, coverage, guarantee) {
  if (!image.edges) return null;
  const limit = side % 2 ? image.height : image.width;
  let low, high;
  if (settings.calibration) {
    const factor = factorOf(settings.calibration, image.labels[i], side, coverage, guarantee);
    if (factor === null) return null;
    const half = image.edge_std[4 * i + side] / settings.calibration.std_factor * factor;
    low = image.boxes[4 * i + side] - half;
    high = image.boxes[4 * i + side] + half;
  } else {
    const { positions, probabilities, size, direction } = distributionOf(image, i, side);
    const inner = quantile(probabilities, (1 - coverage) / 2), outer = quantile(probabilities, (1 + coverage) / 2);
    const ends = [positions[0] + direction * size * inner, positions[0] + direction * size * outer];
    low = Math.min(...ends);
    high = Math.max(...ends);
  }
  return [Math.min(Math.max(low, 0), limit), Math.min(Math.max(high, 0), limit)];
}

// By how many spreads an edge may be off. null: the calibration has too few boxes for this coverage.
function factorOf(calibration, label, side, coverage, guarantee) {
  const row = calibration[guarantee][calibration.coverages.indexOf(coverage)];
  if (!row) return null;
  return guarantee === "edge" ? row[side] : row[row.length === 1 ? 0 : label];
}

// The place, in bins, below which a share of the distribution lies.
function quantile(probabilities, share) {
  let below = 0;
  for (let k = 0; k < probabilities.length; k++) {
    const p = probabilities[k];
    if (p > 0 && below + p >= share) return k - 0.5 + (share - below) / p;
    below += p;
  }
  return probabilities.length - 0.5;
}

// The widest interval of the four edges of each detection.
function widestOf(image, settings, chosen) {
  if (image.widest) return image.widest;
  image.widest = new Float32Array(image.count);
  for (let i = 0; i < image.count; i++) {
    for (let side = 0; side < 4; side++) {
      const interval = intervalOf(image, i, side, settings, chosen.coverage, chosen.guarantee);
      if (interval) image.widest[i] = Math.max(image.widest[i], interval[1] - interval[0]);
    }
  }
  return image.widest;
}

// Whether the score of a detection is enough; that of the class, where these are chosen.
function isAbove(image, i, settings, chosen) {
  const limit = chosen.own && settings.thresholds ? settings.thresholds[image.labels[i]] : chosen.score;
  return image.scores[i] > Math.fround(limit) || (limit === 0 && image.scores[i] === 0);
}

function isShown(image, i, settings, chosen) {
  if (!chosen.classes[image.labels[i]] || !isAbove(image, i, settings, chosen)) return false;
  if (image.kinds) {
    const kind = image.kinds[i];
    if (!(kind === RIGHT ? chosen.right : kind === IGNORED ? chosen.ignored : chosen.wrong)) return false;
  }
  return !(chosen.width > 0) || widestOf(image, settings, chosen)[i] >= chosen.width;
}

// Indices of the detections that are shown, best first.
function shownIn(image, settings, chosen) {
  const found = [];
  for (let i = 0; i < image.count; i++) if (isShown(image, i, settings, chosen)) found.push(i);
  return found.sort((a, b) => image.scores[b] - image.scores[a]);
}

// The ground truth: which boxes are missed at the chosen scores, found, or crowd regions; of chosen classes.
function groundTruthOf(image, settings, chosen) {
  const found = { missed: [], annotated: [], ignored: [] };
  for (let g = 0; g < image.gtCount; g++) {
    if (!chosen.classes[image.gt_labels[g]]) continue;
    const by = image.gt_detection[g];
    const isFound = by >= 0 && isAbove(image, by, settings, chosen);
    found[image.gt_crowd[g] ? "ignored" : isFound ? "annotated" : "missed"].push(g);
  }
  return found;
}

// Numbers of true positives, false positives and missed objects at the chosen scores and classes.
function outcomesOf(image, settings, chosen) {
  let right = 0, wrong = 0;
  for (let i = 0; i < image.count; i++) {
    if (!chosen.classes[image.labels[i]] || !isAbove(image, i, settings, chosen)) continue;
    if (image.kinds[i] === RIGHT) right++;
    else if (image.kinds[i] !== IGNORED) wrong++;
  }
  return { right, wrong, missed: groundTruthOf(image, settings, chosen).missed.length };
}

// The ground-truth box that a detection found, or -1.
function matchOf(image, i) {
  return image.gt_detection ? image.gt_detection.indexOf(i) : -1;
}

// The images that are listed: those of the name, and of filters that leave something in them; sorted.
function listImages(images, settings, chosen) {
  const words = chosen.search.trim().toLowerCase();
  const isFiltered = chosen.width > 0 || chosen.classes.some((is) => !is)
    || (settings.annotated && !(chosen.right && chosen.wrong && chosen.missed));
  const listed = [];
  images.forEach((image, index) => {
    if (words && !image.name.toLowerCase().includes(words)) return;
    const shown = shownIn(image, settings, chosen);
    if (isFiltered && !shown.length && (chosen.width > 0 || !hasMissed(image, settings, chosen))) return;
    listed.push({ index, number: shown.length, key: sortKey(image, shown, settings, chosen) });
  });
  return listed.sort((a, b) => a.key - b.key || a.index - b.index);
}

function hasMissed(image, settings, chosen) {
  return chosen.missed && groundTruthOf(image, settings, chosen).missed.length > 0;
}

function sortKey(image, shown, settings, chosen) {
  if (chosen.sort === "width") return -Math.max(0, ...shown.map((i) => widestOf(image, settings, chosen)[i]));
  if (chosen.sort === "score") return shown.length ? Math.min(...shown.map((i) => image.scores[i])) : 2;
  if (chosen.sort === "errors" && image.kinds) {
    const { wrong, missed } = outcomesOf(image, settings, chosen);
    return -(wrong + missed);
  }
  return 0;
}
