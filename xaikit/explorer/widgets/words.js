// Words in a row, each a button: reached with Tab, pressed with Enter or Space.

function render({ model, el }) {
  el.classList.add("xaikit-words");
  el.setAttribute("role", "group");

  function draw() {
    const words = model.get("words");
    el.setAttribute("aria-label", model.get("label"));
    while (el.children.length > words.length) el.lastChild.remove();
    while (el.children.length < words.length) el.append(newButton(el.children.length));
    [...el.children].forEach((button, place) => {
      const word = words[place];
      button.textContent = word.text;
      button.title = word.label;
      button.setAttribute("aria-pressed", word.pressed);
      Object.assign(button.style, { backgroundColor: word.colour, color: word.ink });
    });
  }

  function newButton(place) {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => model.send({ word: place }));
    return button;
  }

  model.on("change:words change:label", draw);
  draw();
}

export default { render };
