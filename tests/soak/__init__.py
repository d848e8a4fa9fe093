"""The soak: a whole installation under load and faults for as long as one likes, watched from outside.

    place       the small disk, the embedded PostgreSQL on it, the folders
    agents      what the jobs do; mirror: the mirror's process with its timers in seconds
    processes   workers and the mirror as processes of the system, and how they ended
    load        jobs are submitted, and a person answers what they wait for
    faults      kills, stops, restarts, PostgreSQL killed, the disk full: by a plan from the seed
    watch       what must hold, looked at all along; what is sampled
    figures     overhead, memory, growth: what is measured, and when it is left out
    run         all of it together; report: one screen, and JSON

`python -m tests.soak --minutes 60 --seed 1`, or `make soak MINUTES=60`.
"""
