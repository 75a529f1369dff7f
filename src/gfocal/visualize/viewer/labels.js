// Labels beside their boxes, placed so that they hide neither objects nor each other, as labels.py does in drawings.

const LABEL_SIZE = 12, LABEL_PAD = 3, LABEL_GAP = 1; // of the text, beside it, between labels: pixels of the screen
const MOST_HIDDEN = 0.35; // of the area of any object, by all labels together
// Along x (from the left or right end of the box) and along y (above or below it, in its top or bottom), best first.
const LABEL_PLACES = [
  ["left", "above"], ["right", "above"], ["left", "below"], ["right", "below"], ["left", "top"], ["right", "top"],
  ["left", "bottom"], ["right", "bottom"], ["middle", "above"], ["middle", "below"], ["after", "top"], ["before", "top"],
];
const widths = new Map(); // of texts, pixels of the screen
let pen = null; // measures them

function widthOf(text) {
  if (!widths.has(text)) {
    pen ??= document.createElement("canvas").getContext("2d");
    pen.font = `600 ${LABEL_SIZE}px ${getComputedStyle(document.querySelector(".viewer")).fontFamily}`;
    widths.set(text, pen.measureText(text).width + 2 * LABEL_PAD);
  }
  return widths.get(text);
}

// The area that two rectangles share.
function sharedArea(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(0, width) * Math.max(0, height);
}

// Every place of a label of this size at a box, moved into the area.
function placesAt(box, width, height, area) {
  const [left, top, right, bottom] = area, within = (v, low, high) => Math.max(Math.min(v, high), low);
  const x0 = within(box[0], left, right), x1 = within(box[2], left, right);
  const y0 = within(box[1], top, bottom), y1 = within(box[3], top, bottom);
  const at = {
    left: x0, right: x1 - width, middle: (x0 + x1 - width) / 2, before: x0 - width, after: x1,
    above: y0 - height, top: y0, bottom: y1 - height, below: y1,
  };
  return LABEL_PLACES.map(([along, across]) => {
    const x = within(at[along], left, right - width), y = within(at[across], top, bottom - height);
    return [x, y, x + width, y + height];
  });
}

// Where labels stand, the most important first: ``wanted`` has the box and the text of each. null: there is no place
// for it that is free, or its box is out of sight. ``unit`` is that of ``unitOf``, ``area`` what is in sight.
function placeLabels(wanted, objects, area, unit) {
  const height = (LABEL_SIZE + 5) * unit, gap = LABEL_GAP * unit, taken = [];
  const sizes = objects.map((box) => Math.max(sharedArea(box, area), unit * unit)), hidden = objects.map(() => 0);
  return wanted.map(({ box, text }) => {
    const width = widthOf(text) * unit;
    const isOut = box[2] < area[0] || box[3] < area[1] || box[0] > area[2] || box[1] > area[3];
    if (isOut || width > area[2] - area[0] || height > area[3] - area[1]) return null;
    let best = null, least = Infinity, hides = null;
    placesAt(box, width, height, area).forEach((place, order) => {
      if (taken.some((other) => sharedArea(place, other) > 0)) return;
      const shares = objects.map((object, k) => sharedArea(place, object) / sizes[k]);
      const cost = shares.reduce((sum, share) => sum + share, 0.006 * order);
      if (cost < least && !shares.some((share, k) => share > 0 && hidden[k] + share > MOST_HIDDEN)) {
        [best, least, hides] = [place, cost, shares];
      }
    });
    if (best) {
      hides.forEach((share, k) => { hidden[k] += share; });
      taken.push([best[0] - gap, best[1] - gap, best[2] + gap, best[3] + gap]);
    }
    return best;
  });
}

// The place of a label that is to be seen whatever it hides: the first one, above the box if that is in sight.
function placeAlone(box, text, area, unit) {
  return placesAt(box, widthOf(text) * unit, (LABEL_SIZE + 5) * unit, area)[0];
}

// A text on a ground of the color of its box.
function drawLabel(place, text, kind, color, unit) {
  const group = draw("g", { class: `label ${kind}` }), [x, y] = place;
  group.append(rect(place, "plate", color), draw("text", {
    x: x + LABEL_PAD * unit, y: y + (LABEL_SIZE + 0.5) * unit, "font-size": LABEL_SIZE * unit,
    class: color && !isLight(color) ? "on-dark" : "",
  }, text));
  group.place = place;
  return group;
}

// Whether black is easier to read on a color, ``#rrggbb``, than white: by the contrast ratio of WCAG 2.1.
function isLight(color) {
  const [red, green, blue] = [1, 3, 5].map((k) => {
    const share = parseInt(color.slice(k, k + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) ** 2 > 0.05 * 1.05;
}
