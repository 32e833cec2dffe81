"""Files of many requests, in OpenAI's batch format, which survive that the process dies."""
