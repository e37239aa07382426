// Theme, width, axis; and the first drawing.
(() => {
  const button = byId("theme"), root = document.documentElement;
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(dark()));
    button.textContent = dark() ? "Switch to the light theme" : "Switch to the dark theme";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  preferred.addEventListener("change", show);
  show();

  for (const axis of document.querySelectorAll("select.epoch-axis")) {
    axis.addEventListener("change", () => {
      state.axis = axis.value;
      for (const other of document.querySelectorAll("select.epoch-axis")) other.value = axis.value;
      redraw();
    });
  }

  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return; // a phone's address bar comes and goes
    width = window.innerWidth;
    requestAnimationFrame(redraw);
  });
  redraw();
})();
