"""Published datasets: a layout is a function (folder, split) that ``layout`` registers, found in whichever file it stands."""
