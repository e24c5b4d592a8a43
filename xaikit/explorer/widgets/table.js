// A table whose column heads and cells are buttons.

function render({ model, el }) {
  el.classList.add("xaikit-table");

  function pressable(text, pressed, message) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    if (pressed !== null) button.setAttribute("aria-pressed", pressed);
    button.addEventListener("click", () => model.send(message));
    return button;
  }

  function draw() {
    const { corner, columns, rows, sort, descending, pressed } = model.get("table");
    const last = el.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    el.replaceChildren();
    if (!columns) return;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    const first = document.createElement("th");
    first.textContent = corner;
    head.append(first);
    for (const column of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      const sorted = column === sort;
      cell.setAttribute("aria-sort", sorted ? (descending ? "descending" : "ascending") : "none");
      const button = pressable(column + (sorted ? (descending ? " ▼" : " ▲") : ""), null, { column });
      button.dataset.name = `head ${column}`;
      cell.append(button);
      head.append(cell);
    }
    const body = table.createTBody();
    for (const [name, cells] of rows) {
      const line = body.insertRow();
      const label = document.createElement("th");
      label.scope = "row";
      label.textContent = name;
      line.append(label);
      cells.forEach((cell, place) => {
        const column = columns[place];
        const chosen = pressed !== null && pressed[0] === name && pressed[1] === column;
        const button = pressable(cell.text, chosen, { row: name, column });
        button.dataset.name = `${name} ${column}`;
        button.setAttribute("aria-label", `${name}, ${column}: ${cell.text}`);
        Object.assign(button.style, { backgroundColor: cell.colour, color: cell.ink });
        line.insertCell().append(button);
      });
    }
    el.append(table);
    if (last) [...el.querySelectorAll("button")].find((button) => button.dataset.name === last)?.focus();
  }

  model.on("change:table", draw);
  draw();
}

export default { render };
