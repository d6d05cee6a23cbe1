// Links that save figures.
"use strict";
for (const link of document.querySelectorAll("figure a.svg")) {
  const image = link.closest("figure").querySelector("img");
  if (!image) continue;
  link.href = image.src;
  link.hidden = false;
}

// A figure that the page itself has drawn; call it again after each change.
function offerToSave(svg, figure, name) {
  const [asSvg, asPng] = [figure.querySelector("a.svg"), figure.querySelector("a.png")];
  const text = new XMLSerializer().serializeToString(svg);
  asSvg.href = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  asSvg.download = `${name}.svg`;
  asPng.download = `${name}.png`;
  asPng.removeAttribute("href");
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas"), { width, height } = svg.viewBox.baseVal;
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    if (asSvg.href === image.src) asPng.href = canvas.toDataURL();
  };
  image.src = asSvg.href;
}
