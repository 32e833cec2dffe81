"""The bodies of OpenAI's API: what a request says, checked, and what it is answered with."""
