// What is chosen, by pointer and by keys.

const dialog = find("dialog");

function stepImage(step) {
  const next = Math.min(Math.max(place + step, 0), listed.length - 1);
  if (next === place || !listed.length) return;
  place = next;
  showImage();
}

function select(i, side) {
  selected = i === null ? null : { i, side };
  hovered = null;
  if (zoomed) showImage(true);
  else showActive();
}

function stepDetection(step) {
  if (!view || !view.shown.length) return;
  const at = selected ? view.shown.indexOf(selected.i) + step : step > 0 ? 0 : view.shown.length - 1;
  select(view.shown[Math.min(Math.max(at, 0), view.shown.length - 1)], selected ? selected.side : null);
}

function selectEdge(side) {
  if (view && view.shown.length) select(selected ? selected.i : view.shown[0], side);
}

function toggleZoom() {
  if (!view || (!selected && !zoomed)) return;
  zoomed = !zoomed;
  showImage(true);
}

function leave() {
  if (find(".classes").open) find(".classes").open = false;
  else if (document.activeElement.matches("input[type=search], input[type=number]")) list.focus();
  else if (zoomed) toggleZoom();
  else select(null, null);
}

const KEYS = {
  j: () => stepImage(1), k: () => stepImage(-1), z: toggleZoom,
  "/": () => controls.search.focus(), "?": () => dialog.showModal(),
  1: () => selectEdge(0), 2: () => selectEdge(1), 3: () => selectEdge(2), 4: () => selectEdge(3),
};
const ARROWS = {
  ArrowRight: () => stepImage(1), ArrowLeft: () => stepImage(-1),
  ArrowDown: () => stepDetection(1), ArrowUp: () => stepDetection(-1),
};
const LIST_KEYS = {
  ArrowDown: () => stepImage(1), ArrowUp: () => stepImage(-1),
  PageDown: () => stepImage(10), PageUp: () => stepImage(-10),
  Home: () => stepImage(-images.length), End: () => stepImage(images.length),
};

// Keys act where the focus is in the viewer, or nowhere if the page is nothing else; controls keep their own keys.
function pressKey(event) {
  const { target, key } = event, isWhole = root.classList.contains("whole") && target === document.body;
  if (event.ctrlKey || event.altKey || event.metaKey || dialog.open || !(isWhole || root.contains(target))) return;
  const isTyped = target.matches("input[type=search], input[type=number], select");
  const isOnList = target === list && key in LIST_KEYS, hasArrows = target.matches("input, select");
  let act = null;
  if (key === "Escape") act = leave;
  else if (isOnList) act = LIST_KEYS[key];
  else if (key in ARROWS) act = hasArrows ? null : ARROWS[key];
  else if (key in KEYS) act = isTyped ? null : KEYS[key];
  if (!act) return;
  act();
  event.preventDefault();
}

function movePointer(event) {
  if (!view) return;
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
  const near = event.pointerType === "touch" ? NEAR_FINGER : NEAR;
  const found = findNearest(view, at.x, at.y, near * unitOf(stage));
  if (found?.i === hovered?.i && found?.side === hovered?.side) return;
  hovered = found;
  showActive();
}

function changeFilter({ target }) {
  const { name } = target;
  if (target.dataset.label) chosen.classes[target.dataset.label] = target.checked;
  else if (name === "coverage") chosen.coverage = coverages[Number(target.value)];
  else if (name === "score" || name === "width") chosen[name] = Number(target.value) || 0;
  else if (name in chosen) chosen[name] = target.type === "checkbox" ? target.checked : target.value;
  if (name === "score") chosen.own = controls.own.checked = false;
  if (name === "coverage" || name === "guarantee") for (const image of images) image.widest = null;
  update();
  if (name === "sort") stepImage(-images.length); // what comes first is what was asked for
}

function chooseClasses(all) {
  chosen.classes.fill(all);
  for (const box of form.querySelectorAll("[data-label]")) box.checked = all;
  update();
}

function prepare() {
  const hasEdges = images.some((image) => image.edges), isCalibrated = settings.calibration !== null;
  let lowest = 1;
  for (const image of images) for (const score of image.scores) lowest = Math.min(lowest, score);
  chosen.score = Math.max(0, Math.floor(lowest * 100 - 1e-6) / 100);
  controls.score.min = controls.score.value = chosen.score;
  if (!coverages.includes(chosen.coverage)) chosen.coverage = 0.9;
  controls.coverage.max = coverages.length - 1;
  controls.coverage.value = coverages.indexOf(chosen.coverage);
  controls.coverage.disabled = controls.width.disabled = !hasEdges;
  controls.guarantee.disabled = !hasEdges || !isCalibrated;
  form.querySelector(".own").hidden = settings.thresholds === null;
  form.querySelector(".outcomes").hidden = controls.sort.options[3].hidden = !settings.annotated;
  const used = new Set(images.flatMap((image) => [...image.labels, ...(image.gt_labels || [])]));
  find(".classes ul").append(...settings.names.map((name, label) => {
    const box = element("input", { type: "checkbox", "data-label": label, checked: "" });
    const item = element("li", {}, element("label", {}, box, ` ${name}`));
    item.hidden = !used.has(label);
    return item;
  }));
  find(".remark").hidden = !hasEdges;
  find(".remark").textContent = isCalibrated
    ? `Calibrated on ${count(settings.calibration.num_boxes)} boxes (${settings.calibration.data}): intervals hold `
      + "for detections that match an object, in images like those."
    : "Not calibrated: intervals are those of the distributions, without a promise; gfocal calibrate gives one.";
}

function listen() {
  form.addEventListener("input", changeFilter);
  form.addEventListener("submit", (event) => event.preventDefault());
  controls.all.addEventListener("click", () => chooseClasses(true));
  controls.none.addEventListener("click", () => chooseClasses(false));
  controls.toggle.addEventListener("click", () => {
    controls.toggle.setAttribute("aria-expanded", String(form.classList.toggle("open")));
  });
  find("[name=previous]").addEventListener("click", () => stepImage(-1));
  find("[name=next]").addEventListener("click", () => stepImage(1));
  find("[name=zoom]").addEventListener("click", toggleZoom);
  stage.addEventListener("dblclick", toggleZoom);
  document.addEventListener("click", ({ target }) => {
    if (!target.closest(".classes")) find(".classes").open = false;
  });
  controls.help.addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", pressKey);
  list.addEventListener("scroll", drawRows, { passive: true });
  list.addEventListener("click", ({ target }) => {
    const row = target.closest("[data-k]");
    if (row) stepImage(Number(row.dataset.k) - place);
  });
  stage.addEventListener("pointermove", movePointer);
  stage.addEventListener("pointerleave", () => {
    hovered = null;
    showActive();
  });
  stage.addEventListener("click", (event) => {
    movePointer(event);
    select(hovered ? hovered.i : null, hovered ? hovered.side : null);
  });
  detections.addEventListener("click", ({ target }) => {
    const item = target.closest("[data-i]");
    if (item) select(Number(item.dataset.i), selected ? selected.side : null);
  });
  detections.addEventListener("focus", () => selected || stepDetection(1));
  edges.addEventListener("change", ({ target }) => selectEdge(Number(target.value)));
  new ResizeObserver(() => {
    if (view) drawStage(stage, view);
    showActive();
    drawRows();
  }).observe(stage);
}

prepare();
listen();
update();
