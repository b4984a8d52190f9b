// The gallery: filter, sort and search images, and fade between their layers.
const data = JSON.parse(document.getElementById("report-data").textContent);
const PAGE = 24;
// Brightness of the image below a layer: dimmed below labels so that they stand out.
const BRIGHTNESS = { image: 1, map: 1, label: 0.6, ground_truth: 0.6 };
// Names of kinds of layers, and their short forms below the slider.
const NAMES = { ground_truth: "ground truth" };
const SHORT_NAMES = { ground_truth: "GT" };
const gallery = document.getElementById("gallery");
if (gallery) start();

function start() {
  const form = gallery.querySelector("form");
  const controls = form.elements;
  let found = [];
  let shown = 0;

  const split = () => data.splits[controls.split.value];
  const method = () => split().labels.indexOf(controls.label.value);

  function showMore() {
    const next = found.slice(shown, shown + PAGE);
    gallery.querySelector(".cards").append(...next.map((image, offset) => card(image, shown + offset)));
    shown += next.length;
    gallery.querySelector(".count").textContent = `${shown} of ${found.length} images`;
    gallery.querySelector(".more").hidden = shown === found.length;
  }

  function draw() {
    const wanted = controls.search.value.trim().toLowerCase();
    const name = controls.class.value;
    const least = leastDoubt();
    found = split().images.filter(
      (image) =>
        image.id.toLowerCase().includes(wanted) &&
        (!name || image.labels.includes(name)) &&
        (least === null || (image.doubts[method()] ?? -1) >= least) &&
        isReviewed(image.id, controls.review.value),
    );
    found = sorted(found, controls.sort.value, (image) => figureOf(image, controls.sort.value));
    shown = 0;
    gallery.querySelector(".cards").replaceChildren();
    showMore();
  }

  // Return the doubt that the chosen share of the images reaches; null if all are shown.
  function leastDoubt() {
    if (!controls.doubt.value) return null;
    const doubts = split().images.map(({ doubts }) => doubts[method()]).filter((doubt) => doubt != null);
    doubts.sort((a, b) => b - a);
    return doubts[Math.ceil(controls.doubt.value * doubts.length) - 1] ?? Infinity;
  }

  // Open the first image without a verdict, or the first image if all have one.
  function beginReview() {
    if (!found.length) {
      gallery.querySelector(".review .message").textContent = "No image to review: choose another class, doubt or review.";
      return;
    }
    const open = found.findIndex(({ id }) => isReviewed(id, "open"));
    view(found, Math.max(0, open), split(), controls.label.value);
  }

  // Show the images that the chosen review asks for; the viewer keeps its own list while it is open.
  function drawReviewed() {
    if (!controls.review.value) return;
    const id = document.activeElement?.closest(".card")?.dataset.id;
    draw();
    const cards = [...gallery.querySelectorAll(".card")];
    const card = cards.find((one) => one.dataset.id === id) ?? cards[0];
    if (id) (card?.querySelector("button") ?? controls.review).focus();
  }

  // Return the value to sort by: the IoU of the selected class, the mean IoU, or the doubt.
  function figureOf(image, sort) {
    if (sort === "doubt") return image.doubts[method()] ?? null;
    const score = image.scores[method()];
    return (controls.class.value ? score?.ious[controls.class.value] : score?.miou) ?? null;
  }

  function fillControls() {
    const { maps, labels, first, images } = split();
    const scored = images.some(({ scores }) => scores.some(Boolean));
    const doubted = images.some(({ doubts }) => doubts.some((doubt) => doubt !== null));
    const orders = [
      ...(scored ? [["best", "IoU, best first"], ["worst", "IoU, worst first"], ["median", "IoU, median first"]] : []),
      ...(doubted ? [["doubt", "doubt, highest first"]] : []),
      ["id", "id"],
    ];
    fill(controls.sort, orders, doubted && !scored ? "doubt" : orders[0][0]);
    fill(controls.label, labels.map((name) => [name, name]), first);
    const ofLabel = controls.label.value.split("/").slice(0, 2).join("/");
    fill(controls.map, maps.map((name) => [name, name]), maps.includes(ofLabel) ? ofLabel : maps[0]);
    const kinds = ["image", ...["map", "label", "ground_truth"].filter((kind) => images.some(({ layers }) => layers.some((layer) => layer.kind === kind)))];
    fill(controls.show, kinds.map((kind) => [kind, nameOf(kind)]), kinds.includes("label") ? "label" : "image");
    controls.map.closest("label").hidden = maps.length === 0;
    controls.doubt.closest("label").hidden = !doubted;
    if (!doubted) controls.doubt.value = "";
  }

  const nameOf = (kind) => (kind === "label" && controls.split.value === "val" ? "prediction" : (NAMES[kind] ?? kind));

  function stopsOf(image) {
    const chosen = { map: controls.map.value, label: controls.label.value, ground_truth: "" };
    const layers = ["map", "label", "ground_truth"]
      .map((kind) => image.layers.find((layer) => layer.kind === kind && layer.method === chosen[kind]))
      .filter(Boolean);
    return [{ kind: "image", url: image.url }, ...layers];
  }

  function card(image, place) {
    const element = document.createElement("li");
    element.className = "card";
    element.dataset.id = image.id;
    const stops = stopsOf(image);
    const open = document.createElement("button");
    open.type = "button";
    open.className = "stack";
    open.setAttribute("aria-label", `All layers of ${image.id}`);
    open.append(...stops.map(({ url }) => imageElement(url)));
    open.addEventListener("click", () => view(found, place, split(), controls.label.value));
    element.append(open, facts(image), slider(image, stops, open));
    showVerdict(element);
    return element;
  }

  function facts(image) {
    const element = document.createElement("div");
    element.className = "facts";
    const value = figureOf(image, "iou");
    const doubt = image.doubts[method()];
    const names = text("span", "", "soft");
    names.append(...image.labels.map(named));
    names.append([image.labels.length ? "" : "no label", doubt == null ? "" : `doubt ${percent(doubt)}`].join(" "));
    element.append(text("b", image.id), text("span", "", "verdict"), text("span", value == null ? "" : percent(value), "iou"), names);
    element.querySelector(".iou").title = `${controls.class.value || "mean"} IoU in %`;
    return element;
  }

  function slider(image, stops, stack) {
    const label = document.createElement("label");
    label.className = "fade";
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: stops.length - 1, step: 0.25 });
    input.setAttribute("aria-label", `Layer of ${image.id}`);
    const names = text("span", "", "stops");
    names.setAttribute("aria-hidden", "true");
    names.append(...stops.map(({ kind }) => text("span", SHORT_NAMES[kind] ?? nameOf(kind))));
    const fade = () => {
      fadeTo(Number(input.value), stops, stack);
      const nearest = Math.round(input.value);
      input.setAttribute("aria-valuetext", nameOf(stops[nearest].kind));
      [...names.children].forEach((name, index) => name.classList.toggle("now", index === nearest));
    };
    const wanted = stops.findIndex(({ kind }) => kind === controls.show.value);
    input.value = Math.max(0, wanted);
    input.addEventListener("input", fade);
    fade();
    label.append(input, names);
    return label;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  controls.search.addEventListener("input", draw);
  form.addEventListener("change", (event) => {
    if (event.target === controls.search) return;
    if (event.target === controls.split) fillControls();
    draw();
  });
  gallery.querySelector(".more").addEventListener("click", () => {
    const first = shown;
    showMore();
    gallery.querySelectorAll(".card button")[first].focus();
  });
  document.addEventListener("review", () => {
    for (const card of gallery.querySelectorAll(".card")) showVerdict(card);
    if (!gallery.querySelector("dialog").open) drawReviewed();
  });
  gallery.querySelector("dialog").addEventListener("close", drawReviewed);
  gallery.querySelector(".begin").addEventListener("click", beginReview);
  form.hidden = false;
  fillControls();
  draw();
  for (const list of document.querySelectorAll("ol.look")) linkThumbnails(list);
  for (const list of document.querySelectorAll("ol.labelerrors")) linkLabelErrors(list);
}

// Return whether an image has the state of review that is asked for.
function isReviewed(id, wanted) {
  const { verdict, labels, note } = document.review.of(id);
  if (wanted === "open") return !verdict;
  if (wanted === "edited") return Boolean(labels || note);
  if (wanted === "conflict") return document.review.inConflict(id);
  return !wanted || verdict === wanted;
}

function showVerdict(card) {
  const { verdict } = document.review.of(card.dataset.id);
  card.dataset.verdict = verdict;
  card.querySelector(".verdict").textContent = verdict;
}

// Images without a value come last. "Median first" sorts by distance from the median.
function sorted(images, sort, figure) {
  if (sort === "id") return [...images].sort((a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }));
  const known = images.filter((image) => figure(image) !== null);
  known.sort((a, b) => (sort === "worst" ? 1 : -1) * (figure(a) - figure(b)) || a.id.localeCompare(b.id));
  if (sort === "median") {
    const middle = known.length ? figure(known[Math.floor(known.length / 2)]) : 0;
    known.sort((a, b) => Math.abs(figure(a) - middle) - Math.abs(figure(b) - middle));
  }
  return [...known, ...images.filter((image) => figure(image) === null)];
}

// Between two stops the upper layer fades in and the lower one fades out, over the image.
function fadeTo(position, stops, stack) {
  const [below, above] = [Math.floor(position), Math.ceil(position)];
  const [from, to] = [BRIGHTNESS[stops[below].kind], BRIGHTNESS[stops[above].kind]];
  stack.style.setProperty("--brightness", from + (to - from) * (position - below));
  [...stack.children].forEach((layer, index) => {
    if (index) layer.style.opacity = Math.max(0, 1 - Math.abs(position - index));
  });
}

// Add thumbnails to a list of the most doubtful images, and a placeholder for images that the gallery lacks.
function linkThumbnails(list) {
  const split = data.splits[list.dataset.split];
  const items = itemsWithImages(list, split);
  const known = items.filter(([, image]) => image);
  for (const [item, image] of items) if (!image) item.prepend(text("span", "not in the gallery", "absent"));
  known.forEach(([item, image], place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "stack";
    button.setAttribute("aria-label", `All layers of ${image.id}`);
    const label = image.layers.find(({ kind, method }) => kind === "label" && method === list.dataset.method);
    button.append(imageElement(image.url), ...(label ? [imageElement(label.url)] : []));
    button.style.setProperty("--brightness", label ? BRIGHTNESS.label : 1);
    button.addEventListener("click", () => view(known.map(([, other]) => other), place, split, list.dataset.method));
    item.prepend(button);
  });
}

// Add a button to each possible label error whose image is in the gallery. The viewer goes through their images.
function linkLabelErrors(list) {
  const split = data.splits[list.dataset.split];
  const known = itemsWithImages(list, split).filter(([, image]) => image);
  const images = [...new Set(known.map(([, image]) => image))];
  for (const [item, image] of known) {
    const button = text("button", "");
    const name = () => {
      const { labels } = document.review.of(image.id);
      button.textContent = labels ? `Corrected: ${labels}` : "View and correct";
      button.setAttribute("aria-label", `${button.textContent}, ${image.id}`);
    };
    button.type = "button";
    document.addEventListener("review", name);
    name();
    button.addEventListener("click", () => view(images, images.indexOf(image), split, split.first));
    item.querySelector("p").append(button);
  }
}

// Return pairs of a list's items and their images; an image is undefined if the gallery lacks it.
function itemsWithImages(list, split) {
  return [...list.children].map((item) => [item, split?.images.find(({ id }) => id === item.dataset.id)]);
}

// Return a class's name with its color.
function named(name) {
  const element = text("span", name, "class");
  const swatch = document.createElement("i");
  swatch.style.background = data.classes.find((one) => one.name === name)?.color;
  element.prepend(swatch);
  return element;
}

// Open the viewer, which shows the label of the chosen method before the other layers.
function view(images, index, { labels }, chosen) {
  const detail = { images: images.map((image) => ({ image, labels })), index, chosen };
  document.dispatchEvent(new CustomEvent("view", { detail }));
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, name]) => new Option(name, value)));
  if (options.length) select.value = chosen;
}

function imageElement(url) {
  const element = document.createElement("img");
  element.src = url;
  element.alt = "";
  return element;
}

function text(tag, content, name = "") {
  const element = document.createElement(tag);
  element.textContent = content;
  element.className = name;
  return element;
}

function percent(share) {
  return (100 * share).toFixed(1);
}
