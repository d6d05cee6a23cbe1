// Tables that sort by a column: ascending at the first click on its header, then the other way.
"use strict";
(() => {
  const NUMBER = /^[-−+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf|nan)( \([^)]*\))?( of \d+|×|%)?$/i;
  const isMissing = text => text === "" || text === "–";

  // A cell's number, without a deviation in brackets or a unit; NaN for text.
  function number(text) {
    const start = text.replace("−", "-").replaceAll(",", "");
    const infinite = /^([-+]?)inf/i.exec(start);
    return infinite ? (infinite[1] === "-" ? -Infinity : Infinity) : parseFloat(start);
  }

  // Cells that are missing or NaN come last, whichever the direction.
  function sort(table, column, ascending) {
    const body = table.tBodies[0], sign = ascending ? 1 : -1;
    const rows = [...body.rows].map(row => [row, row.cells[column].textContent.trim()]);
    const given = rows.map(([, text]) => text).filter(text => !isMissing(text));
    const numeric = given.every(text => NUMBER.test(text));
    const last = text => isMissing(text) || (numeric && Number.isNaN(number(text)));
    const compare = numeric
      ? (a, b) => (number(a) === number(b) ? 0 : number(a) < number(b) ? -1 : 1)
      : (a, b) => a.localeCompare(b, undefined, { numeric: true });
    rows.sort(([, a], [, b]) => last(a) - last(b) || (last(a) ? 0 : sign * compare(a, b)));
    body.append(...rows.map(([row]) => row));
  }

  for (const table of document.querySelectorAll("table")) {
    const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      header.ariaSort = "none";
      button.addEventListener("click", () => {
        const ascending = header.ariaSort !== "ascending";
        for (const other of headers) other.ariaSort = "none";
        header.ariaSort = ascending ? "ascending" : "descending";
        sort(table, column, ascending);
      });
    });
    // Whoever puts other values in the cells says so.
    table.addEventListener("refill", () => {
      const column = headers.findIndex(header => header.ariaSort !== "none");
      if (column >= 0) sort(table, column, headers[column].ariaSort === "ascending");
    });
  }
})();
