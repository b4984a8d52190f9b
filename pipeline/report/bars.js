// Horizontal bars of the IoU per class, of one method or of two.
const { scores } = JSON.parse(document.getElementById("report-data").textContent);
const panel = document.getElementById("bars");
if (panel) start();

function start() {
  const { first, second, order } = panel.querySelector("form").elements;
  scores.forEach(({ name }, index) => first.add(new Option(name, index)));
  second.add(new Option("nothing", ""));
  scores.forEach(({ name }, index) => second.add(new Option(name, index)));
  first.value = scores.reduce((best, score, index) => (score.miou > scores[best].miou ? index : best), 0);
  const draw = () => {
    const shown = [first.value, second.value].filter((value) => value !== "").map((value) => scores[value]);
    panel.querySelector(".bars").replaceChildren(...rows(shown, order.value));
  };
  panel.querySelector("form").addEventListener("change", draw);
  panel.hidden = false;
  draw();
}

// The mean comes first; a class that is absent comes last when sorted by IoU.
function rows(shown, order) {
  const places = shown[0].classes.map((_, place) => place);
  const iou = (place) => shown[0].classes[place].iou ?? -1;
  if (order === "iou") places.sort((a, b) => iou(b) - iou(a));
  const mean = row("mean", shown.map((score) => [score.kind, score.miou]));
  mean.className = "mean";
  return [
    mean,
    ...places.map((place) => row(shown[0].classes[place].name, shown.map((score) => [score.kind, score.classes[place].iou]))),
  ];
}

function row(name, values) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  label.className = "name";
  label.textContent = name;
  item.append(label);
  for (const [kind, value] of values) {
    const bar = document.createElement("span");
    bar.className = `bar ${kind}`;
    const filled = document.createElement("span");
    filled.style.width = `${100 * (value ?? 0)}%`;
    bar.append(filled);
    const figure = document.createElement("span");
    figure.className = "value";
    figure.textContent = value == null ? "absent" : (100 * value).toFixed(1);
    item.append(bar, figure);
  }
  return item;
}
