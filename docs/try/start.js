// Whether this browser can do it; and if not, the sentence that says why. A script of the old kind, which also runs where the others are not understood.
(function () {
  var place = document.getElementById("unable"), needed = ["WebAssembly", "Worker", "createImageBitmap", "OffscreenCanvas", "DecompressionStream"], missing = [], name;
  for (name of needed) if (!(name in window)) missing.push(name);
  function unable(text) { place.textContent = text; place.hidden = false; document.getElementById("try").hidden = true; }
  if (location.protocol === "file:")
    return unable("Browsers let no page in a folder load a network: serve the folder, for instance with “python3 -m http.server” in it, and open http://localhost:8000/try.html.");
  if (missing.length) return unable("This browser is too old for this page (it lacks " + missing.join(", ") + "): one of the last three years will do.");
  place.hidden = true;
  import("./page.js").then(function () { document.getElementById("try").hidden = false; }, function (error) { unable("The page's scripts did not load (" + error.message + "): load the page again."); });
})();
