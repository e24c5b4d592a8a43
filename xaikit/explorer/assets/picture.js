// A titled picture whose spots are buttons: reached with Tab, moved between with the arrow keys, pressed with Enter or Space.
// What the pointed or focused one is stands below.

function render({ model, el }) {
  el.classList.add("xaikit-picture");
  const title = document.createElement("div");
  const frame = document.createElement("div");
  const image = document.createElement("img");
  const said = document.createElement("div");
  const note = document.createElement("div");
  title.className = "xaikit-title";
  frame.className = "xaikit-frame";
  note.className = "xaikit-note";
  said.className = "xaikit-said";
  said.setAttribute("aria-hidden", "true"); // the buttons have these labels
  frame.append(image);
  el.append(title, frame, said, note);
  let url = null;
  let focused = 0;

  function drawPicture() {
    const bytes = model.get("png");
    el.classList.toggle("xaikit-empty", !bytes.byteLength); // the widget's layout overwrites el.style.display
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    image.src = url;
  }

  function drawText() {
    title.textContent = model.get("title");
    note.textContent = model.get("note");
    image.alt = model.get("alt");
  }

  function buttons() {
    return [...frame.querySelectorAll("button")];
  }

  function drawSpots() {
    const spots = model.get("spots");
    const held = frame.contains(document.activeElement);
    while (buttons().length > spots.length) buttons().pop().remove();
    while (buttons().length < spots.length) frame.append(newButton(buttons().length));
    focused = Math.min(focused, Math.max(spots.length - 1, 0));
    buttons().forEach((button, place) => {
      const spot = spots[place];
      Object.assign(button.style, {
        left: `${100 * spot.x}%`, top: `${100 * spot.y}%`, width: `${100 * spot.width}%`, height: `${100 * spot.height}%`,
      });
      button.setAttribute("aria-label", spot.label);
      button.setAttribute("aria-pressed", spot.pressed);
      button.tabIndex = place === focused ? 0 : -1;
    });
    said.hidden = !spots.length;
    if (held && buttons()[focused]) buttons()[focused].focus();
    say();
  }

  function say() {
    const spot = frame.querySelector("button:hover") ?? frame.querySelector("button:focus");
    said.textContent = spot?.getAttribute("aria-label") ?? "";
  }

  function newButton(place) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "xaikit-spot";
    button.addEventListener("click", () => {
      move(place);
      model.send({ spot: place });
    });
    return button;
  }

  function move(place) {
    const all = buttons();
    if (!all[place]) return;
    all[focused].tabIndex = -1;
    focused = place;
    all[focused].tabIndex = 0;
    all[focused].focus();
  }

  // the nearest spot in the direction of the arrow
  function towards(dx, dy) {
    const spots = model.get("spots");
    const centre = (spot) => [spot.x + spot.width / 2, spot.y + spot.height / 2];
    const [x, y] = centre(spots[focused]);
    let best = focused;
    let least = Infinity;
    spots.forEach((spot, place) => {
      const [toX, toY] = centre(spot);
      const along = (toX - x) * dx + (toY - y) * dy;
      const aside = Math.abs((toX - x) * dy) + Math.abs((toY - y) * dx);
      const cost = along + 3 * aside;
      if (along > 1e-6 && cost < least) [best, least] = [place, cost];
    });
    return best;
  }

  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !buttons().length) return;
    event.preventDefault();
    event.stopPropagation();
    move(towards(...step));
  });

  for (const name of ["mouseover", "mouseout", "focusin", "focusout"]) frame.addEventListener(name, () => setTimeout(say));

  model.on("change:png", drawPicture);
  model.on("change:title change:note change:alt", drawText);
  model.on("change:spots", drawSpots);
  drawPicture();
  drawText();
  drawSpots();
  model.send({ seen: true });
  return () => url && URL.revokeObjectURL(url);
}

export default { render };
