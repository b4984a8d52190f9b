// The dialog that shows all layers of an image side by side. The gallery opens it with an event
// "view" whose detail is {images, index, chosen}: the label of the method `chosen` comes first. The
// arrow keys move through these images, and so does the event "step" with {by} or {id}. The event
// "shown" tells which image it shows.
const dialog = document.querySelector("dialog.viewer");
let images = [];
let index = 0;
let chosen = null;

if (dialog) {
  document.addEventListener("view", ({ detail }) => {
    ({ images, index, chosen } = detail);
    show();
    dialog.showModal();
    dialog.querySelector("h3").focus();
  });
  document.addEventListener("step", ({ detail: { by, id } }) => {
    if (!dialog.open) return;
    if (by) step(by);
    else goTo(images.findIndex(({ image }) => image.id === id));
  });
  dialog.querySelector(".previous").addEventListener("click", () => step(-1));
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  // The content fills the dialog, so a click on the dialog itself is a click on its backdrop.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in steps) || event.target.matches("input")) return;
    event.preventDefault();
    step(steps[event.key]);
  });
}

function step(by) {
  index = (index + by + images.length) % images.length;
  show();
}

function goTo(place) {
  if (place < 0) return;
  index = place;
  show();
}

function show() {
  const { image, labels } = images[index];
  dialog.querySelector("h3").textContent = image.id;
  dialog.querySelector(".facts").textContent = [image.labels.join(", ") || "no label", ...image.groups].join(" · ");
  dialog.querySelector(".place").textContent = `${index + 1} of ${images.length}`;
  const score = (layer) => (layer.kind === "label" ? image.scores[labels.indexOf(layer.method)] : null);
  const isChosen = ({ kind, method }) => kind === "label" && method === chosen;
  const layers = [...image.layers].sort((a, b) => isChosen(b) - isChosen(a));
  dialog.querySelector(".cells").replaceChildren(
    figure(image, null, "image"),
    ...layers.map((layer) => {
      const miou = score(layer)?.miou;
      return figure(image, layer, miou == null ? layer.caption : `${layer.caption}: mIoU ${(100 * miou).toFixed(1)} %`);
    }),
  );
  const detail = { id: image.id, labels: image.labels, last: index === images.length - 1 };
  document.dispatchEvent(new CustomEvent("shown", { detail }));
}

function figure(image, layer, caption) {
  const element = document.createElement("figure");
  const stack = document.createElement("span");
  stack.className = "stack";
  stack.append(imageElement(image.url, `${caption} of ${image.id}`));
  if (layer) {
    if (layer.kind !== "map") stack.firstChild.className = "dimmed";
    stack.append(imageElement(layer.url, ""));
  }
  const words = document.createElement("figcaption");
  words.textContent = caption;
  element.append(stack, words);
  return element;
}

function imageElement(source, description) {
  const element = document.createElement("img");
  element.src = source;
  element.alt = description;
  return element;
}
