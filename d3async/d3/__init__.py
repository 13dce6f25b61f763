"""Pure: D3's commands, requests, answers, links and logs."""
