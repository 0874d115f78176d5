{{/* Labels of every object; call with (dict "root" $ "component" "controller"), component "" for what is shared. */}}
{{- define "sluice.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{/* The labels that never change: Deployments select their pods by them. */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- if .component }}
app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end }}

{{/* An image by digest or tag: (dict "root" $ "image" .Values.images.proxy). */}}
{{- define "sluice.image" -}}
{{- $repository := .image.repository -}}
{{- if .root.Values.images.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .root.Values.images.registry) (regexReplaceAll "^[^/]+[.:][^/]*/" $repository "") -}}
{{- end -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $repository .image.digest }}
{{- else -}}
{{ printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) }}
{{- end -}}
{{- end }}

{{/* Keeps an object when the release is uninstalled. */}}
{{- define "sluice.keep" -}}
helm.sh/resource-policy: keep
{{- end }}

{{/* Namespaces whose pods and resources no webhook looks at. */}}
{{- define "sluice.excluded" -}}
{{ concat (list .Release.Namespace) .Values.webhooks.excludedNamespaces | uniq | toJson }}
{{- end }}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
# Both are given: where only the image names them some runtimes take group 0, and a group alone is refused by some.
runAsUser: 16022
runAsGroup: 16022
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "sluice.bundlesUrl" -}}
https://sluice-bundles.{{ .Release.Namespace }}.svc
{{- end }}

{{/*
ServiceAccount, Deployment and PodDisruptionBudget of one process:
(dict "root" $ "component" "admission" "settings" .Values.admission "https" true "env" (list (dict "name" … "value" …)))
*/}}
{{- define "sluice.process" -}}
{{- $root := .root }}
{{- $name := printf "sluice-%s" .component }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "sluice.labels" . | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "sluice.labels" . | nindent 4 }}
spec:
  replicas: {{ .settings.replicas }}
  selector:
    matchLabels:
      {{- include "sluice.selector" . | nindent 6 }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  template:
    metadata:
      labels:
        {{- include "sluice.labels" . | nindent 8 }}
        {{- with .settings.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with .settings.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      terminationGracePeriodSeconds: 30
      enableServiceLinks: false
      securityContext:
        {{- include "sluice.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.images.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .settings.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .settings.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .settings.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .settings.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "sluice.selector" $ | nindent 14 }}
        {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "sluice.image" (dict "root" $root "image" $root.Values.images.operator) }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          args: [{{ .component }}]
          env:
            - name: SLUICE_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: SLUICE_POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- if ne .component "admission" }}
            - name: SLUICE_POD_UID
              valueFrom: {fieldRef: {fieldPath: metadata.uid}}
            {{- end }}
            - name: SLUICE_LOG_LEVEL
              value: {{ $root.Values.logLevel }}
            - name: SLUICE_CLUSTER_DOMAIN
              value: {{ $root.Values.clusterDomain }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- if .https }}
            - {name: https, containerPort: 8443}
            {{- end }}
            - {name: health, containerPort: 8081}
          startupProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 2
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: /readyz, port: health}
            periodSeconds: 5
            timeoutSeconds: 3
          livenessProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          resources:
            {{- toYaml .settings.resources | nindent 12 }}
          securityContext:
            {{- include "sluice.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: tmp
          emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- if gt (int .settings.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "sluice.labels" . | nindent 4 }}
spec:
  minAvailable: 1
  selector:
    matchLabels:
      {{- include "sluice.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* The Service of a process with TLS. */}}
{{- define "sluice.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: sluice-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sluice.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "sluice.selector" . | nindent 4 }}
  ports:
    - {name: https, port: 443, targetPort: https}
{{- end }}
