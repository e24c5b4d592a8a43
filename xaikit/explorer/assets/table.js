// A table whose heads and cells are buttons: reached with Tab, moved between with the arrow keys, pressed with Enter or Space.

function render({ model, el }) {
  el.classList.add("xaikit-table");
  let grid = []; // the buttons, a list a line: the heads, then the cells
  let at = [0, 0]; // the one that Tab reaches

  function pressable(text, message) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.tabIndex = -1;
    button.addEventListener("click", () => {
      move(place(button));
      model.send(message);
    });
    return button;
  }

  function place(button) {
    const line = grid.findIndex((buttons) => buttons.includes(button));
    return line < 0 ? null : [line, grid[line].indexOf(button)];
  }

  function head(text, sorted, descending, label, message) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.setAttribute("aria-sort", sorted ? (descending ? "descending" : "ascending") : "none");
    const button = pressable(text.replaceAll("_", " ") + (sorted ? (descending ? " ▼" : " ▲") : ""), message);
    button.title = label;
    cell.append(button);
    return cell;
  }

  function draw() {
    const { corner, columns, rows, sort, descending, pressed, labels } = model.get("table");
    const held = place(document.activeElement); // null where the focus isn't on a button of this table
    el.replaceChildren();
    grid = [];
    if (!columns) return;
    const table = document.createElement("table");
    const top = table.createTHead().insertRow();
    top.append(head(corner, false, false, "back to the order in which they are stored", { corner: true }));
    columns.forEach((column, index) => {
      top.append(head(column, column === sort, descending, labels[index] ?? "", { column }));
    });
    grid.push([...top.querySelectorAll("button")]);
    const body = table.createTBody();
    for (const [name, cells] of rows) {
      const line = body.insertRow();
      const label = document.createElement("th");
      label.scope = "row";
      label.textContent = name;
      line.append(label);
      grid.push(cells.map((cell, index) => {
        const column = columns[index];
        const button = pressable(cell.text, { row: name, column });
        button.setAttribute("aria-pressed", pressed !== null && pressed[0] === name && pressed[1] === column);
        button.setAttribute("aria-label", `${name}, ${column}: ${cell.text}`);
        Object.assign(button.style, { backgroundColor: cell.colour, color: cell.ink });
        line.insertCell().append(button);
        return button;
      }));
    }
    el.append(table);
    if (!grid[at[0]]?.[at[1]]) at = [0, 0];
    grid[at[0]][at[1]].tabIndex = 0;
    if (held) grid[held[0]]?.[held[1]]?.focus();
  }

  function move([line, index]) {
    const button = grid[line]?.[index];
    if (!button) return;
    grid[at[0]][at[1]].tabIndex = -1;
    at = [line, index];
    button.tabIndex = 0;
    button.focus();
  }

  el.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || !grid.length) return;
    event.preventDefault();
    event.stopPropagation();
    const [line, index] = at;
    // the line of heads has one more, above the names of the rows
    const shift = step[0] && line === 0 ? -1 : step[0] && line + step[0] === 0 ? 1 : 0;
    move([line + step[0], Math.max(index + step[1] + shift, 0)]);
  });

  model.on("change:table", draw);
  draw();
}

export default { render };
