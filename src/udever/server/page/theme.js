import { el, icon, put } from "./dom.js";

const THEMES = { auto: "Follow the system", light: "Light", dark: "Dark" };

function chosenTheme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "auto") localStorage.removeItem("udever-theme");
    else localStorage.setItem("udever-theme", theme);
  } catch {
    // No storage here: the choice lasts as long as the page.
  }
  window.dispatchEvent(new Event("themechange"));
}

/** The button that goes from the system's theme to light, to dark and back. What draws listens to "themechange". */
export function themeButton() {
  const button = el("button", { type: "button", class: "icon-button" });
  const show = () => {
    const theme = chosenTheme();
    const label = `Theme: ${THEMES[theme].toLowerCase()}`;
    button.setAttribute("aria-label", label);
    button.title = label;
    put(button, icon(theme));
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(chosenTheme()) + 1) % names.length]);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    window.dispatchEvent(new Event("themechange"));
  });
  show();
  return button;
}
