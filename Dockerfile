# Spillway's roles in one image: the command names the role. No shell or npm between it and its signals.
FROM node:24-slim AS modules
WORKDIR /spillway
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /spillway
COPY --from=modules /spillway/node_modules node_modules
COPY package.json ./
COPY apps apps
COPY lib lib
COPY schemas schemas
# /tmp takes unsaved events that outgrow a query node's memory: a volume there, where they may be many.
# node
USER 1000
STOPSIGNAL SIGTERM
CMD ["node", "apps/web/main.ts"]
