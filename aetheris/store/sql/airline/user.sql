-- A profile with its payment methods and reservations, as its world has them.
SELECT u.shown::text AS profile,
       (SELECT json_object_agg(m.payment_id, m.shown ORDER BY m.position)::text
        FROM (SELECT DISTINCT ON (payment_id) payment_id, position, shown FROM airline.payment_methods
              WHERE dataset = %(dataset)s AND user_id = %(user_id)s AND world IN ('', %(world)s)
              ORDER BY payment_id, world DESC) m
        WHERE m.shown IS NOT NULL) AS methods,
       (SELECT json_agg(reservation_id ORDER BY position)::text FROM airline.user_reservations
        WHERE dataset = %(dataset)s AND user_id = %(user_id)s AND world IN ('', %(world)s)) AS reservations
FROM airline.users u
WHERE u.dataset = %(dataset)s AND u.user_id = %(user_id)s
