"""OpenAI Responses, the stateless part."""
