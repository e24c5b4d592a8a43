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
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    const parts = file.size > model.get("most_bytes") ? 0 : Math.max(Math.ceil(file.size / PART), 1);
    button.disabled = true;
    try {
      if (!parts) model.send({ name: file.name, size: file.size });
      for (let part = 0; part < parts; part++) {
        const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
        model.send({ name: file.name, size: file.size, part, parts }, undefined, [bytes]);
      }
    } finally {
      button.disabled = false;
      input.value = ""; // so that the same file can be given again
    }
  });
  el.append(button, input);
}

export default { render };
