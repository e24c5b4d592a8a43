// A button that hands over a picture in parts: Jupyter's server drops the connection at a message of more than 10 MB.

const PART = 4_000_000; // bytes

function render({ model, el }) {
  el.classList.add("xaikit-upload");
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/*";
  input.hidden = true;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-button widget-button";
  button.textContent = model.get("text");
  // aria-disabled, since a button that is disabled loses the keyboard's focus
  const busy = () => button.getAttribute("aria-disabled") === "true";
  button.addEventListener("click", () => busy() || input.click());
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file || busy()) return;
    const about = { id: `${Date.now()} ${Math.random()}`, name: file.name, size: file.size };
    const parts = Math.max(Math.ceil(file.size / PART), 1);
    button.setAttribute("aria-disabled", "true");
    try {
      if (file.size > model.get("most_bytes")) return model.send(about); // which says that it is too large
      for (let part = 0; part < parts; part++) {
        const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
        model.send({ ...about, part, parts }, undefined, [bytes]);
      }
    } catch {
      model.send(about); // without a part: the file can't be read, such as one that was moved away
    } finally {
      button.setAttribute("aria-disabled", "false");
      input.value = ""; // so that the same file can be given again
    }
  });
  el.append(button, input);
}

export default { render };
