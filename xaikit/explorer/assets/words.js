// Words in a row, each a button: reached with Tab, pressed with Enter or Space. What is said of the pointed or focused one
// stands below.

function render({ model, el }) {
  el.classList.add("xaikit-words");
  el.setAttribute("role", "group");
  const said = document.createElement("div");
  said.className = "xaikit-said";
  said.setAttribute("aria-hidden", "true"); // the buttons are described by it
  el.append(said);

  function buttons() {
    return [...el.querySelectorAll("button")];
  }

  function draw() {
    const words = model.get("words");
    el.setAttribute("aria-label", model.get("label"));
    while (buttons().length > words.length) buttons().pop().remove();
    while (buttons().length < words.length) said.before(newButton(buttons().length));
    buttons().forEach((button, place) => {
      const word = words[place];
      button.textContent = word.text;
      button.setAttribute("aria-description", word.label);
      button.setAttribute("aria-pressed", word.pressed);
      Object.assign(button.style, { backgroundColor: word.colour, color: word.ink });
    });
    say();
  }

  function say() {
    const word = el.querySelector("button:hover") ?? el.querySelector("button:focus");
    said.textContent = word?.getAttribute("aria-description") ?? "";
  }

  function newButton(place) {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => model.send({ word: place }));
    return button;
  }

  for (const name of ["mouseover", "mouseout", "focusin", "focusout"]) el.addEventListener(name, () => setTimeout(say));

  model.on("change:words change:label", draw);
  draw();
}

export default { render };
