"""The explorer in a page, as its user meets it: by labels and roles; and what a page tells of itself."""

import base64
import io
import re

import numpy as np
from explorer.conftest import typed
from PIL import Image

from xaikit.explorer.state import State

BYTES = """async (image) => {
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}"""
EXECUTE = """async (code) => {
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false });
  let said = "";
  future.onIOPub = ({ content }) => { said += content.text ?? content.traceback?.join("\\n") ?? ""; };
  const { content } = await future.done;
  if (content.status !== "ok") throw new Error(said);
  return said;
}"""
# Texts that don't fit their element, and controls and pictures that stick out of a box that cuts them off; in a table that
# scrolls sideways they may.
CUT_OFF = """(root) => {
  const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getBoundingClientRect().width > 1;
  const named = (element) =>
    `${element.className || element.tagName} ${JSON.stringify((element.textContent || element.value || "").slice(0, 40))}`;
  const found = [];
  const texts = "label, button, .widget-label, .widget-readout, .lm-TabBar-tabLabel, .xaikit-title, .xaikit-note, code";
  for (const element of root.querySelectorAll(texts)) {
    if (seen(element) && element.clientWidth && element.scrollWidth > element.clientWidth + 1)
      found.push(`${named(element)} needs ${element.scrollWidth} px and has ${element.clientWidth}`);
  }
  for (const element of root.querySelectorAll("label, button, select, input, img, code, .slider, .xaikit-note")) {
    if (!seen(element) || element.closest(".xaikit-table")) continue;
    const { left, right, bottom } = element.getBoundingClientRect();
    for (let box = element.parentElement; box !== root.parentElement; box = box.parentElement) {
      const edges = box.getBoundingClientRect();
      if (box !== root && getComputedStyle(box).overflowX === "visible") continue;
      if (right > edges.right + 1 || left < edges.left - 1) {
        found.push(`${named(element)} sticks out of ${box.className} by ${Math.round(right - edges.right)} px`);
        break;
      }
      if (bottom > edges.bottom + 1) {
        found.push(`${named(element)} goes on for ${Math.round(bottom - edges.bottom)} px below the end of ${box.className}`);
        break;
      }
    }
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth + 1) found.push("the page scrolls sideways");
  return found;
}"""


class ExplorerPage:
    """A page with an explorer. troubles : errors in its console. outside : what it asked of other machines."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.root = page.locator(".xaikit-explorer").first
        self.troubles, self.outside = [], []
        page.on("console", lambda said: self.troubles.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", self._asked)

    def _asked(self, request):
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.outside.append(request.url)

    # what is there

    @property
    def line(self):
        """The line of code that shows the same again."""
        return self.root.locator("code").last.inner_text()

    @property
    def state(self):
        """What the line says."""
        return State().but(**typed(self.line))

    @property
    def error(self):
        return self.root.locator(".xaikit-error").inner_text().strip()

    def picture(self, title):
        """The picture whose title begins with this text."""
        heading = self.page.locator(".xaikit-title", has_text=re.compile(f"^{re.escape(title)}"))
        return self.root.locator(".xaikit-picture:visible").filter(has=heading)

    def png(self, title):
        """The bytes that a picture shows, once it is painted and stays: a slider that was dragged shows several in a row,
        and the line of code may come before the last of them."""
        image = self.picture(title).locator("img")
        before = None
        while before != (before := image.get_attribute("src")):
            self.page.wait_for_timeout(200)
        self.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
        return base64.b64decode(image.evaluate(BYTES))

    def pixels(self, title):
        return np.asarray(Image.open(io.BytesIO(self.png(title))).convert("RGB"))

    def cut_off(self):
        """What isn't shown whole."""
        return self.root.evaluate(CUT_OFF)

    def handle(self, label):
        """The handle of a slider."""
        name = self.page.locator(".widget-label", has_text=re.compile(f"^{label}$"))
        return self.root.locator(".widget-slider:visible").filter(has=name).locator(".noUi-handle")

    def control(self, label):
        """A labelled text field, list or box to tick."""
        name = self.page.locator("label", has_text=re.compile(f"^{label}$"))
        kinds = ".widget-text:visible, .widget-dropdown:visible, .widget-checkbox:visible"
        return self.root.locator(kinds).filter(has=name).locator("input, select")

    def button(self, name):
        return self.root.get_by_role("button", name=name, exact=True).locator("visible=true")

    # what its user does

    def open(self, tab):
        """Press a tab's head and wait until it is shown."""
        self.root.get_by_role("tab", name=tab.capitalize()).click()
        self.wait(tab=tab)

    def drag(self, label, share):
        """Drag a slider's handle to a share of its way."""
        handle = self.handle(label)
        handle.hover()  # once it is at rest: JupyterLab moves the page by a few pixels after it was scrolled far
        track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box()
        box = handle.bounding_box()
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + track["width"] * share, box["y"] + box["height"] / 2, steps=5)
        self.page.mouse.up()

    def type(self, label, text):
        """Type into a text field and press Enter."""
        field = self.control(label)
        field.fill(text)
        field.press("Enter")

    def wait(self, **choices):
        """Wait until the line says so, and nothing is being computed."""
        for name, value in choices.items():
            default = getattr(State, name)
            said = f"{name}={value!r}"
            check = "([root, said, there]) => root.querySelectorAll('code')[root.querySelectorAll('code').length - 1]"
            check += ".textContent.includes(said) === there"
            self.page.wait_for_function(check, arg=[self.root.element_handle(), said, value != default])
        self.button("Cancel").wait_for(state="hidden")
        self.page.wait_for_timeout(200)  # each widget hears of a change by itself, the line perhaps first

    # JupyterLab only

    def execute(self, code):
        """Run code in the notebook's kernel and return what it prints."""
        return self.page.evaluate(EXECUTE, code)

    def bad_outputs(self):
        """What cells show that isn't meant to be seen."""
        kinds = ("vnd.jupyter.stderr", "vnd.jupyter.error")
        return self.page.locator(
            ", ".join(f".jp-OutputArea-output[data-mime-type='application/{kind}']" for kind in kinds)
        ).all_inner_texts()
