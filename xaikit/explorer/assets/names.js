// Names for screen readers that ipywidgets' own controls lack, also of those that come later: the handles of sliders are called
// as what stands beside them, and the buttons of a film as their icons (fa-play, fa-pause, ...).

function render({ el }) {
  let watched = null;

  function call(element, name) {
    if (name && element.getAttribute("aria-label") !== name) element.setAttribute("aria-label", name);
  }

  function name() {
    for (const handle of watched.querySelectorAll(".noUi-handle")) {
      call(handle, handle.closest(".widget-slider")?.querySelector(".widget-label")?.textContent);
    }
    for (const icon of watched.querySelectorAll(".widget-play button i")) {
      call(icon.closest("button"), icon.className.match(/fa-(\w+)/)?.[1].replace("retweet", "repeat"));
    }
  }

  const watch = new MutationObserver(name);
  const start = setTimeout(() => { // once it stands in the page
    watched = el.closest(".xaikit-explorer") ?? document.body;
    watch.observe(watched, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
    name();
  });
  return () => {
    clearTimeout(start);
    watch.disconnect();
  };
}

export default { render };
