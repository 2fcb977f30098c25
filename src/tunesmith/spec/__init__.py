"""The language of the system: jobs, states, events and errors. Imports nothing of ours."""
