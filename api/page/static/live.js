// Live: keeps what a page shows of jobs up to date.
