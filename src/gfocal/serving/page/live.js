// Images that come while the page is open. This stands after the scripts of the viewer, in one function with them.

controls.score.min = "0";

// An image with its detections; ``place`` is that of an image which it replaces, else it is added. Gives its place.
function addImage(packed, pixels, at) {
  const index = at ?? images.length;
  images[index] = readImage(JSON.stringify(packed));
  if (pixels) pixelBlocks.set(index, { textContent: pixels });
  for (const label of images[index].labels) form.querySelector(`[data-label="${label}"]`).closest("li").hidden = false;
  update();
  const found = listed.findIndex((one) => one.index === index);
  if (found >= 0 && found !== place) {
    place = found;
    showImage();
  }
  rows.replaceChildren();
  drawRows();
  return index;
}

return addImage;
