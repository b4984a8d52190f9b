// The dialog that shows all layers of an image side by side. The gallery opens it with an event
// "view" whose detail is {pictures, index}; the arrow keys move through these images.
const dialog = document.querySelector("dialog.viewer");
let pictures = [];
let index = 0;

if (dialog) {
  document.addEventListener("view", ({ detail }) => {
    ({ pictures, index } = detail);
    show();
    dialog.showModal();
    dialog.querySelector("h3").focus();
  });
  dialog.querySelector(".previous").addEventListener("click", () => step(-1));
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  // The content fills the dialog, so a click on the dialog itself is a click on its backdrop.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    step(steps[event.key]);
  });
}

function step(by) {
  index = (index + by + pictures.length) % pictures.length;
  show();
}

function show() {
  const { picture, labels } = pictures[index];
  dialog.querySelector("h3").textContent = picture.id;
  dialog.querySelector(".facts").textContent = [picture.labels.join(", ") || "no label", ...picture.groups].join(" · ");
  dialog.querySelector(".place").textContent = `${index + 1} of ${pictures.length}`;
  const score = (layer) => (layer.kind === "label" ? picture.scores[labels.indexOf(layer.method)] : null);
  dialog.querySelector(".cells").replaceChildren(
    figure(picture, null, "image"),
    ...picture.layers.map((layer) => {
      const miou = score(layer)?.miou;
      return figure(picture, layer, miou == null ? layer.caption : `${layer.caption}: mIoU ${(100 * miou).toFixed(1)} %`);
    }),
  );
}

function figure(picture, layer, caption) {
  const element = document.createElement("figure");
  const stack = document.createElement("span");
  stack.className = "stack";
  stack.append(image(picture.photograph, `${caption} of ${picture.id}`));
  if (layer) {
    if (layer.kind !== "map") stack.firstChild.className = "dimmed";
    stack.append(image(layer.url, ""));
  }
  const words = document.createElement("figcaption");
  words.textContent = caption;
  element.append(stack, words);
  return element;
}

function image(source, description) {
  const element = document.createElement("img");
  element.src = source;
  element.alt = description;
  return element;
}
