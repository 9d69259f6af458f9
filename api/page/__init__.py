"""The status page: HTML made by the server, with pictures in SVG and nothing that a browser has to run or fetch."""
