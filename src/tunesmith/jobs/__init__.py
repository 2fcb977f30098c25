"""The life of a job: admitted by the service, started by the scheduler, followed by the supervisor."""
