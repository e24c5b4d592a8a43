// Sliders, lists and text fields in a row, each inside a label with its name. A slider that is dragged says the next value
// once the last one is drawn.

function render({ model, el }) {
  el.classList.add("xaikit-controls");
  let waiting = false;
  const wishes = new Map(); // the latest of each control that wasn't sent yet

  function tell(control, value) {
    if (waiting) {
      wishes.set(control, value);
      return;
    }
    waiting = true;
    wishes.delete(control);
    model.send({ control, value });
  }

  function done(message) {
    if (!message.done) return;
    waiting = false;
    if (wishes.size) tell(...wishes.entries().next().value);
    else draw(false); // what couldn't be drawn was not chosen; a text stays to be mended
  }

  function field({ kind, labels }, place) {
    const made = document.createElement(kind === "list" ? "select" : "input");
    if (kind === "list") labels.forEach((label, index) => made.add(new Option(label, index)));
    if (kind === "slider") Object.assign(made, { type: "range", min: 0, max: labels.length - 1, step: 1 });
    if (kind === "text") made.type = "text";
    made.addEventListener(kind === "slider" ? "input" : "change", () => {
      if (kind === "slider") say(made, labels[made.value]);
      tell(place, kind === "text" ? made.value : Number(made.value));
    });
    return made;
  }

  function say(slider, label) {
    slider.setAttribute("aria-valuetext", label);
    slider.nextSibling.textContent = label;
  }

  function draw(texts = true) {
    const controls = model.get("controls");
    if (el.children.length !== controls.length) {
      el.replaceChildren(...controls.map((control, place) => {
        const label = document.createElement("label");
        const name = document.createElement("span");
        name.textContent = control.name;
        label.append(name, field(control, place));
        if (control.kind === "slider") {
          label.append(document.createElement("output"));
          label.lastChild.setAttribute("aria-hidden", "true"); // the slider has it as its value
        }
        return label;
      }));
    }
    controls.forEach((control, place) => {
      if (control.kind === "text" && !texts) return;
      const made = el.children[place].querySelector("input, select");
      const text = String(control.value);
      if (made.value !== text && !(made === document.activeElement && wishes.has(place))) made.value = text;
      if (control.kind === "slider") say(made, control.labels[made.value]);
    });
  }

  // JupyterLab has commands on letters and arrows
  el.addEventListener("keydown", (event) => {
    if (event.key !== "Tab" && !event.ctrlKey && !event.metaKey && !event.shiftKey) event.stopPropagation();
  });
  model.on("change:controls", () => draw());
  model.on("msg:custom", done);
  draw();
}

export default { render };
