// The review's panel in the gallery: progress, buttons and messages. review.csv carries the review
// to the pipeline and to other reviewers.
const panel = document.querySelector(".review");

takeStored();
findEarlier();
listen();
panel.hidden = judge.hidden = false;
refresh();

function listen() {
  viewer.addEventListener("keydown", onKey);
  document.addEventListener("shown", ({ detail }) => {
    current = detail;
    fillJudge();
  });
  judge.addEventListener("submit", (event) => event.preventDefault());
  judge.addEventListener("click", ({ target }) => {
    const pressed = target.closest("button");
    if (pressed?.matches(".undo")) undo();
    else if (pressed) decide(pressed.dataset.verdict);
  });
  // Every letter is kept at once. One step of undo takes back all that was typed into a field.
  judge.addEventListener("focusin", () => (before = { id: current.id, row: rows.get(current.id) }));
  judge.addEventListener("input", ({ target }) => {
    put(current.id, { [target.name]: target.name === "labels" ? plainLabels(target.value) : target.value.trim() });
    keep();
  });
  judge.addEventListener("change", () => {
    history.push({ id: before.id, rows: new Map([[before.id, before.row]]) });
    before = { id: current.id, row: rows.get(current.id) };
    refresh();
  });
  panel.querySelector(".save").addEventListener("click", save);
  panel.querySelector(".undo").addEventListener("click", undo);
  panel.querySelector(".continue").addEventListener("click", () => settleEarlier(true));
  panel.querySelector(".ignore").addEventListener("click", () => settleEarlier(false));
  const input = panel.querySelector("input[type=file]");
  panel.querySelector(".load").addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    await loadAll(input.files);
    input.value = "";
  });
  document.querySelector("#gallery [name=split]").addEventListener("change", refresh);
  // Another tab with the same report changed the review, perhaps while the browser kept this one aside.
  const catchUp = () => {
    takeStored();
    document.dispatchEvent(new CustomEvent("review"));
    refresh();
  };
  window.addEventListener("storage", ({ key }) => key === PREFIX + settings.key && catchUp());
  window.addEventListener("pageshow", ({ persisted }) => persisted && catchUp());
  // The browser asks before it closes a page with changes that are stored nowhere.
  window.addEventListener("beforeunload", (event) => unsaved.size && event.preventDefault());
}

function refresh() {
  const text = progress();
  panel.querySelector(".progress").textContent = text;
  judge.querySelector(".progress").textContent = text;
  const lost = unsaved.size ? "The browser cannot store the review: save review.csv before you close the page." : "";
  for (const line of document.querySelectorAll(".unsaved")) if (line.textContent !== lost) line.textContent = lost;
  const { done, total } = counted();
  Object.assign(panel.querySelector("progress"), { value: done, max: total || 1 });
  const open = openConflicts();
  panel.querySelector(".conflicts").replaceChildren(...open.map(conflictItem));
  panel.querySelector(".disagreement").hidden = open.length === 0;
  showEarlier();
  fillJudge();
}

function showEarlier() {
  const line = panel.querySelector(".earlier");
  line.hidden = !earlier;
  if (!earlier) return;
  const here = [...earlier.rows.keys()].filter((id) => known.has(id)).length;
  line.querySelector("span").textContent =
    `This browser has a review of another report of this experiment (other images, methods or labels). ` +
    `It judges or corrects ${plural(here, "image")} of this page.`;
}

function counted() {
  const images = splits[document.querySelector("#gallery [name=split]").value]?.images ?? [];
  const counts = Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0]));
  for (const { id } of images) if (document.review.of(id).verdict) counts[document.review.of(id).verdict] += 1;
  const done = VERDICTS.reduce((sum, verdict) => sum + counts[verdict], 0);
  const corrected = images.filter(({ id }) => document.review.of(id).labels).length;
  return { counts, done, corrected, total: images.length };
}

function progress() {
  const { counts, done, corrected, total } = counted();
  const labels = corrected ? ` Labels of ${plural(corrected, "image")} corrected.` : "";
  return `${done} of ${total} images reviewed: ${VERDICTS.map((verdict) => `${counts[verdict]} ${verdict}`).join(", ")}.${labels}`;
}

function say(words) {
  const place = viewer.open ? judge.querySelector(".message") : panel.querySelector(".message");
  place.textContent = words;
  place.classList.remove("problem");
}

function warn(words) {
  say(words);
  panel.querySelector(".message").textContent = words;
  panel.querySelector(".message").classList.add("problem");
}

function button(label, description, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.setAttribute("aria-label", description);
  element.addEventListener("click", action);
  return element;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
