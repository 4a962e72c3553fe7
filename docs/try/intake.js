// All ways in which posters come to the page: dropped or pasted anywhere, chosen, photographed, or one of the examples.

// `take` gets a list of { file, name }; `say` a sentence for the reader.
export function intake(root, take, say) {
  const taken = (files, words) => files.length ? take([...files].map(file => ({ file, name: file.name || "picture" }))) : say(words);

  for (const input of root.querySelectorAll("input[type=file]"))
    input.onchange = () => { const files = [...input.files]; input.value = ""; if (files.length) taken(files); };

  addEventListener("dragover", event => { event.preventDefault(); document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files")); });
  addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", event => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    taken(event.dataTransfer.files, "What was dropped is no file: save the picture first, or copy it and paste it here.");
  });
  addEventListener("paste", event => {
    if (event.clipboardData.files.length) { event.preventDefault(); taken(event.clipboardData.files); }
    else if (!event.target.closest("input")) say("What was pasted is no picture: copy a picture itself, not its address.");
  });

  for (const button of root.querySelectorAll("button[data-example]")) button.onclick = async () => {
    try {
      const response = await fetch(button.dataset.example);
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      take([{ file: await response.blob(), name: button.dataset.example.split("/").at(-1) }]);
    } catch (error) { say(`The example did not load (${error.message}): try again.`); }
  };
}
