// A button beside each password that shows what was typed, for whoever types with one finger.
//
// The page holds the button, with its words, in a <template data-show-password="id of the field">.
// When the form is sent the field hides again, so that the browser keeps it as a password.

export function offerToShow(root) {
  for (const template of root.querySelectorAll("template[data-show-password]")) {
    offer(template, document.getElementById(template.dataset.showPassword));
  }
}

function offer(template, input) {
  template.after(template.content.cloneNode(true));
  const button = template.nextElementSibling;
  button.addEventListener("click", () => show(input, button, input.type === "password"));
  input.form?.addEventListener("submit", () => show(input, button, false));
  // Whoever comes back to the page later does not find it readable.
  window.addEventListener("pagehide", () => show(input, button, false));
}

function show(input, button, shown) {
  input.type = shown ? "text" : "password";
  for (const words of button.querySelectorAll("[data-when]")) {
    words.hidden = (words.dataset.when === "shown") !== shown;
  }
}
