// Gives the handles of ipywidgets' sliders the names that stand beside them, for screen readers, also of those that come later.

function render({ el }) {
  let watched = null;

  function name() {
    for (const handle of watched.querySelectorAll(".noUi-handle")) {
      const label = handle.closest(".widget-slider")?.querySelector(".widget-label")?.textContent;
      if (label && handle.getAttribute("aria-label") !== label) handle.setAttribute("aria-label", label);
    }
  }

  const watch = new MutationObserver(name);
  const start = setTimeout(() => { // once it stands in the page
    watched = el.closest(".xaikit-explorer") ?? document.body;
    watch.observe(watched, { childList: true, subtree: true });
    name();
  });
  return () => { clearTimeout(start); watch.disconnect(); };
}

export default { render };
