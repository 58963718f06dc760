// Printing: shows the buttons that only work with a script, and lets them print the page.
// Without scripts the browser's own menu prints it just as well.

export function offerPrinting(root) {
  for (const button of root.querySelectorAll("button[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
}
