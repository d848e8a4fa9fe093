-- All that a change must know, in one look: the reservation, whose it is, their payment methods, the flights asked for
-- with the days asked for, which new numbers are taken, and whether this very change was made before.
WITH reserved AS (
    SELECT shown, user_id FROM airline.reservations
    WHERE dataset = %(dataset)s AND reservation_id = %(reservation_id)s AND world IN ('', %(world)s)
    ORDER BY world DESC
    LIMIT 1
), whose AS (
    SELECT user_id FROM airline.users
    WHERE dataset = %(dataset)s AND user_id = coalesce(%(user_id)s::text, (SELECT user_id FROM reserved))
), method AS (
    SELECT DISTINCT ON (m.payment_id) m.payment_id, m.position, m.shown
    FROM airline.payment_methods m JOIN whose USING (user_id)
    WHERE m.dataset = %(dataset)s AND m.world IN ('', %(world)s)
    ORDER BY m.payment_id, m.world DESC
)
SELECT (SELECT answer FROM airline.receipts
        WHERE dataset = %(dataset)s AND world = %(world)s AND key = %(key)s) AS answered,
       (SELECT shown::text FROM reserved) AS reservation,
       (SELECT user_id FROM whose) AS user_id,
       (SELECT coalesce(json_agg(json_build_array(payment_id, position, shown) ORDER BY position), '[]')::text
        FROM method) AS methods,
       (SELECT coalesce(json_object_agg(f.flight_number, json_build_object(
                   'shown', f.shown,
                   'days', (SELECT coalesce(json_object_agg(d.day, d.shown), '{}') FROM airline.flight_days d
                            WHERE d.dataset = f.dataset AND d.flight_number = f.flight_number
                              AND d.day = ANY(%(days)s)))), '{}')::text
        FROM airline.flights f
        WHERE f.dataset = %(dataset)s AND f.flight_number = ANY(%(flight_numbers)s)) AS flights,
       (SELECT desk::text FROM airline.datasets WHERE dataset = %(dataset)s) AS desk,
       ARRAY(SELECT DISTINCT r.reservation_id
             FROM airline.datasets s
             CROSS JOIN json_array_elements_text(s.desk -> 'reservation_ids') AS fresh(id)
             JOIN airline.reservations r ON r.dataset = s.dataset AND r.reservation_id = fresh.id
             WHERE s.dataset = %(dataset)s AND r.world IN ('', %(world)s)) AS taken
